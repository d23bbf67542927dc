"""What development and the tests need and production does not."""
