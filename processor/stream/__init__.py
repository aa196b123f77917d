"""Kafka and Faust: how records come in, and how what they bring about is committed exactly once."""
