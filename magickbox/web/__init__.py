"""The window: a page and an API, in a process of its own, where people see the box work and steer it."""
