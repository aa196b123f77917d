"""What is wrong with a record that can't be read, in msgspec's words, and in none of the record's."""


def unquoted(error: Exception) -> str:
    """Give the sentence of an error; where it quotes a value, which may be somebody's number, the place alone."""
    text = str(error)
    quotes = text.startswith("Invalid enum value")
    return f"Not one of the words allowed - at {text.rpartition(' - at ')[2]}" if quotes else text
