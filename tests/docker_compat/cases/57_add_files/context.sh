echo 1 >one; mkdir tree; echo 2 >tree/two; tar -cf tree/not-unpacked.tar --mtime=@700000000 one
