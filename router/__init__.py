"""Events become deliveries (`match`), deliveries become outcomes (`deliver`)."""
