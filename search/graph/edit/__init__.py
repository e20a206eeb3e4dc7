"""The upload, edited: how a cut or refitted graph gets back into the file that it was read from."""
