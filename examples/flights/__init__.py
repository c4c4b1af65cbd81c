"""The main job: will a flight from New York arrive late?"""
