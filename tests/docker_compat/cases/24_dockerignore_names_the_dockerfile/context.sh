echo 1 >one; printf 'Dockerfile\n.dockerignore\n' >.dockerignore
