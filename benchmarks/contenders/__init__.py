"""What the rendered service is compared with: the same routes, models and schemas, other sessions."""
