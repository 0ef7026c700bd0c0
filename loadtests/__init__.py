"""Load tests with Locust: the users of both sides, seen through HTTP and websockets only."""
