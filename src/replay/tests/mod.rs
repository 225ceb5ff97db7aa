mod live;
mod odd;
mod rollouts;
mod scene;
