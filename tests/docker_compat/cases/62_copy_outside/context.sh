echo 1 >one; echo 2 >two; mkdir tree
