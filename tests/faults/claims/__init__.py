"""What is promised, claim by claim: each looks at the facts and says what is not as promised."""
