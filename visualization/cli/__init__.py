"""What the commands share: arguments, the network, photographs, progress, output files."""
