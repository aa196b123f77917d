"""janela: keeps the reply window of each customer, on Kafka."""

__version__ = "0.1.0"
