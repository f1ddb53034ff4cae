mkdir tree; mkfifo tree/fifo; echo 1 >tree/one
