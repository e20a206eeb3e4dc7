"""What an option of a layer is, one kind of removal a file."""
