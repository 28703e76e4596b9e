"""Which tables and sentences does a comparison have?"""
