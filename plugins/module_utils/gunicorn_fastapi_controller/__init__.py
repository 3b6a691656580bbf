"""What is decided on the controller: what a release is made of, and its name."""
