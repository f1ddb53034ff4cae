printf '\357\273\277FROM busybox\r\nENV A=1\r\nRUN echo x \\\r\n  y >/out\r\nCMD ["a"]\r\n' >Dockerfile
