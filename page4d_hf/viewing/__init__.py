"""Looking at scenes and captures: in a browser, or as a picture."""
