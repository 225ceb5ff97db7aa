mod asked;
mod live;
mod odd;
mod rollouts;
mod scene;
