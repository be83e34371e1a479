"""Reading photographs, and converting their pixels to a network's input and back."""
