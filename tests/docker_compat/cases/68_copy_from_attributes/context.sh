mkdir d; echo 1 >d/suid; chmod 755 d/suid
