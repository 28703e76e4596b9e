"""What has a trained model learned: its features, the numbers behind figures of its insides; and can a model be trained?"""
