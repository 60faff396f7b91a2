"""What happens through the QEMU guest agent, and what its answers and a guest's own tools say."""
