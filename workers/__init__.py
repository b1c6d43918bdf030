"""Process bodies and farm functions, written against the public interface of shmpool only."""
