"""What people do with the report in a browser."""
