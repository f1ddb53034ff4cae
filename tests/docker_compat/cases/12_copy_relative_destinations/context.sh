echo 1 >one; mkdir tree; echo 2 >tree/two
