"""Instruments, last prices, candles, trading calendar."""
