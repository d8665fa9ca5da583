"""Back-end `kubernetes`: each job is a RayJob of KubeRay."""
