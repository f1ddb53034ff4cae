echo 1 >one.txt; echo 2 >two.txt; echo 3 >a.md; echo 4 >ab.md; echo 5 >ax; echo 6 >bx; echo 7 >cx; echo 8 >x.log
mkdir -p d1 d2 tree/p tree/q 'd[x'; echo 9 >d1/f1; echo 10 >d2/f2; echo 11 >d2/g; echo 12 >tree/p/leaf; echo 13 >tree/q/other
echo 14 >'d[x/y'
