"""The fulfilment consumer: ships what was paid, once."""
