echo 1 >file
