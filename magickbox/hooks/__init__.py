"""What is told of trouble outside the box."""
