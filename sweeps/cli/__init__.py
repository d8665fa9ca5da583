"""The command `pinnsweep`: arguments in, text or JSON out."""
