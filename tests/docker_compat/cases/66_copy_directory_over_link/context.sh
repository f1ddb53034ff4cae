mkdir -p tree/link; echo 1 >tree/link/one
