echo 1 >one; echo 22 >two; chmod 640 two; touch -d @500000000 two
