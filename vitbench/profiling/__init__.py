"""How fast is a model, where does its time go, and how near is that to what the device can do?"""
