"""What we add to aiokafka: requests that it does not speak, a producer that commits or ends, questions about logs."""
