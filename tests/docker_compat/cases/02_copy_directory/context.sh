mkdir -p tree/sub/deep tree/private tree/open other empty
echo 1 >tree/one; echo 2 >tree/sub/two; echo 3 >tree/private/three; echo 4 >other/four
chmod 700 tree/private; chmod 777 tree/open; chmod 750 tree; chmod 711 empty
touch -d @400000000 tree/sub/deep
