"""The example: users and their notes. Change it, copy it, delete it."""
