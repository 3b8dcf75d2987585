"""The API, one module a resource: what it returns is what the pages show."""
