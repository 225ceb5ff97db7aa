mod odd;
mod rollouts;
mod scene;
