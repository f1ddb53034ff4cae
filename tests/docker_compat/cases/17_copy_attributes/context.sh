echo 1 >one; mkdir dir; setfattr -n user.key -v value one; setfattr -n user.dir -v d dir
