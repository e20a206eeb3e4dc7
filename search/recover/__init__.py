"""Getting accuracy back: closed-form repair, reconstruction, fine-tuning."""
