"""What a network is worth: accuracy and its interval, parity of files, memory."""
