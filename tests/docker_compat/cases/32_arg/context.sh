echo 1 >d
