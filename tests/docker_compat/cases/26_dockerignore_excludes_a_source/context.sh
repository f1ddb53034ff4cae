echo secret >secret; echo secret >.dockerignore
