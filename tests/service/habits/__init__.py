"""Sessions in routes and scripts, used as the documentation of the libraries has them."""
