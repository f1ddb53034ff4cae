echo 1 >'a b'; echo 2 >ünï; echo 3 >'quoted.txt'; echo 4 >'dollar$x'; echo 5 >one
