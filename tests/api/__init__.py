"""The API, over HTTP and function by function."""
