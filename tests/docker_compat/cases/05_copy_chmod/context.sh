echo 1 >one; mkdir -p tree/sub; echo 2 >tree/two; echo 3 >tree/sub/three; ln -s two tree/link; chmod 755 tree/two
