mkdir tree; echo 1 >tree/one
