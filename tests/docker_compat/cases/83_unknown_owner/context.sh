echo 1 >one
