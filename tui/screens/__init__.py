"""Home, Monitor, and the panels that open above them."""
